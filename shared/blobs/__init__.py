"""Large contents, kept under their sha256; events carry a reference (the claim check)."""
