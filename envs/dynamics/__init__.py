"""How people's values move through others: one rule a file, tested against its closed form."""
