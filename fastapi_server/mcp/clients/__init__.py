"""One module per transport, each with the client and its channel; what they share is in `base_client` and `channel`."""
