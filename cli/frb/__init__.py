"""`tocsin frb`: the client of the burst intake, for whoever may use it over HTTP."""
