"""VOEvents as they travel: XML from strangers, and the VOEvent Transport Protocol."""
