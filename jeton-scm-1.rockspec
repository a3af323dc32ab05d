rockspec_format = "3.0"
package = "jeton"
version = "scm-1"
source = { url = "git+https://github.com/jeton-proxy/jeton.git" }
description = {
  summary = "A Lua-scriptable HTTP proxy that keeps a fresh token on every request",
  detailed = [[
A short Lua policy fetches and refreshes the token; jeton puts it on every request to the upstream that demands one, checks its expiry
when the bytes are written, and reloads the policy without losing a request.]],
  license = "MIT",
}
dependencies = { "lua ~> 5.4" }
external_dependencies = { LIBUV = { header = "uv.h" }, MBEDTLS = { header = "mbedtls/ssl.h" }, NGHTTP2 = { header = "nghttp2/nghttp2.h" }, ZLIB = { header = "zlib.h" } }
build = {
  type = "make",
  build_variables = { PREFIX = "$(PREFIX)" },
  install_variables = { PREFIX = "$(PREFIX)" },
}
