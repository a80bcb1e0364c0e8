"""What the demo needs: a tiny model, and pictures to train it on."""
