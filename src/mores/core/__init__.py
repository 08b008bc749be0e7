"""The contract: environments, policies, people, spaces, random streams, errors."""
