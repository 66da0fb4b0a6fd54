"""What two cases differ in, and what one consists of: simulated again on the same requests, with intervals."""
