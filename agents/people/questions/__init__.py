"""Questions of surveys: items that come with mores, a file, comments of a Polis conversation."""
