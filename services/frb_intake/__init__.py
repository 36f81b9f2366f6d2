"""Takes in fast radio bursts over HTTP and from other observatories, keeps them, announces them on `frb.events`."""
