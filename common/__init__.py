"""The ground both bots stand on: wire, durable inbox, encryption, membership, command line."""
