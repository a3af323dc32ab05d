--- What the corpus's families write their requests with.
local M = {}

--- A head: the request line and field lines, each without its CRLF.
function M.head(...) return table.concat({ ... }, "\r\n") .. "\r\n\r\n" end
--- A GET with further field lines (without CRLF).
function M.get(...) return M.head("GET /corpus HTTP/1.1", "Host: example.com", ...) end
--- A POST with field lines and a body.
function M.post(fields, body)
  if type(fields) == "string" then fields = { fields } end
  return M.head("POST /corpus HTTP/1.1", "Host: example.com", table.unpack(fields)) .. (body or "")
end
--- A POST whose body is sent as it is, as chunks.
function M.chunked(body) return M.post("Transfer-Encoding: chunked", body) end

--- What must never be read as a request of its own.
M.inner = "GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"
M.inner_size = ("%x"):format(#M.inner)
M.last = "0\r\n\r\n"
M.hello = "5\r\nhello\r\n0\r\n\r\n"

--- A list of cases with the same expectation. Each: { name, bytes, rule, more fields of the case }.
function M.all(expect, status, list)
  for i, c in ipairs(list) do
    local case = { name = c[1], bytes = c[2], rule = c[3], expect = expect, status = status }
    for k, v in pairs(c) do
      if type(k) == "string" then case[k] = v end
    end
    list[i] = case
  end
  return list
end

function M.join(...)
  local all = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #all + 1, all) end
  return all
end

return M
