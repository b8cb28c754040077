"""Who may do what at the front door: keys, tokens, certificates, roles, tenants, rates, TLS."""
