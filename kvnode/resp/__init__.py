"""The Redis protocol front end: bytes in, operations out, replies back in request order."""
