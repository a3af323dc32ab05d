-- No token at all: a reverse proxy. Two keys are enough (listen and upstream); the others show what may be said beside them.

return {
  listen = { jeton.env.LISTEN or "127.0.0.1:8080" }, -- more than one, IPv6 and "unix:/run/x.sock" are fine
  upstream = jeton.env.UPSTREAM or "http://127.0.0.1:9000",

  timeouts = { connect = "2s", first_byte = "30s", drain = "10s" },
  limits = { body = "10m" },   -- larger requests get 413
  forwarded = "set",           -- to a back end of your own: X-Forwarded-For, -Proto, -Host and Forwarded say what jeton saw; "append" behind a proxy that you trust
  log = { level = "info", format = "text", access = true }, -- a line a request on standard output, the rest on standard error
}
