"""What `flexiflow.extras.monitor` is made of."""
