// Every field reports here; the draft stays in the browser, and goes out once for many changes.
const KEY = 'darkroom.draft.1';
let timer;
const read = () => { try { return JSON.parse(localStorage.getItem(KEY) || '{}') } catch { return {} } };
const draft = read();
window.darkroom = {
  draft,
  text: () => JSON.stringify(draft),
  set(name, value) {
    draft[name] = value;
    localStorage.setItem(KEY, JSON.stringify(draft));
    clearTimeout(timer);
    timer = setTimeout(() => { props.value = JSON.stringify(draft); trigger('input') }, 150);
  },
};
