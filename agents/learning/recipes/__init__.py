"""Named recipes: objectives, and what feedback becomes. None is a trainer of its own."""
