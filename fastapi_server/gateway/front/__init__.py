"""What stands between the network and the gateway: who gets in, as whom, how often, and with how much."""
