"""One environment seen through the interfaces of others: Gymnasium, PettingZoo, TorchRL.

Every view stands on the `Table`; none has a loop of its own.
"""
