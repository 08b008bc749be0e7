"""mores: communities of people, principals, supervisors and AI agents whose values move."""
