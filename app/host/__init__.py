"""The server around the application: sockets, middleware, logs, the launch agent."""
