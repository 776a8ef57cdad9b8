"""What the tests with real parts share: processes, clients, scripted workers.  Knows the public contract only."""
