"""Training to History: probes on the device, the tape, and the recorder that drains them."""
