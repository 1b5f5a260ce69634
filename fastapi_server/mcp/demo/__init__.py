"""Demo servers, built with the official SDK, and the configuration that reaches them all."""
