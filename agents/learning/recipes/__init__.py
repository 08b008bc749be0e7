"""Named recipes: objectives and transforms of feedback, on the common training loops."""
