"""What the bot does in rooms as an ordinary member: the client-server API, by endpoint."""
