// Looks at the runs once a second while they are shown, else now and then for the words in the bar.
const shownParts = {};
let timer, busy = false;
const base = () => location.pathname.replace(/\/(en|zh-CN|ja)?\/?$/, '') + '/files';
const view = () => document.getElementById('runs-view');
const isShown = () => { const place = view(); return !!place && place.offsetParent !== null && !document.hidden };
function put(id, html) {
  const place = document.getElementById(id);
  if (!place || (shownParts[id] === html && place.innerHTML !== '')) return;
  shownParts[id] = html;
  const log = place.querySelector('pre'), atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 4, at = log ? log.scrollTop : 0;
  place.innerHTML = html.replaceAll('FILES:', base());
  const now = place.querySelector('pre');
  if (now) now.scrollTop = atEnd ? now.scrollHeight : at;
}
async function look() {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    if (!document.hidden) {
      const seen = await server.look(JSON.stringify({ job: localStorage.getItem('darkroom.run') || '', shown: isShown() }));
      for (const [id, html] of Object.entries(seen)) put(id, html);
    }
  } catch { put('runs-chip', element.querySelector('#runs-chip').dataset.gone) }
  busy = false;
  timer = setTimeout(look, isShown() ? 1000 : 4000);
}
document.addEventListener('click', async (event) => {
  const tab = event.target.closest('#nav [role=tab]');
  if (tab) localStorage.setItem('darkroom.tab', tab.dataset.tabId);
  const job = event.target.closest('[data-job]'), act = event.target.closest('[data-act]');
  if (act) {
    act.disabled = true;
    if (act.dataset.ask && !confirm(act.dataset.ask)) { act.disabled = false; return }
    const said = await server.act(JSON.stringify({ job: act.dataset.of, act: act.dataset.act }));
    put('run-said', said);
    act.disabled = false;
  } else if (job) {
    localStorage.setItem('darkroom.run', job.dataset.job);
    put('run-said', '');
  } else return;
  look();
});
document.addEventListener('visibilitychange', look);
window.lookAtRuns = () => { setTimeout(look, 50); setTimeout(look, 400) };
look();
