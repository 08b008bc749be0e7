"""Update rules of people's values, one per file, each tested against its closed form."""
