--- What the documents and the editor's types say of a policy's keys and of the library, against the tables that read them and what a script finds.
local uv = require "luv"
local process = require "spec.support.process"

--- The defaults (or false) of each table of fields in core/policy: { ["keys.c limit_fields"] = { body = "0", … } }
local function tables()
  local found = {}
  for _, file in ipairs { "keys.c", "keys_net.c", "keys_token.c", "keys_tls.c", "keys_forward.c", "keys_proxy.c" } do
    local text = process.read_file("core/policy/" .. file)
    for name, body in text:gmatch "static const struct field ([%w_]+)%[%] = (%b{});" do
      local keys = {}
      for key, rest in body:gmatch '{"([%w_]+)", FIELD_[%w_]+, ([^{]*)' do
        local default = rest:gsub("%b()", ""):match '^[^,]+, "([^"]*)"'
        keys[key] = default or false
      end
      if next(keys) then found[file .. " " .. name] = keys end
    end
  end
  for hook in process.read_file("core/policy/hooks.h"):gmatch 'XX%(%u+, "([%w_]+)"%)' do found["keys.c top_fields"][hook] = false end
  assert(found["keys.c top_fields"].on_request == false)
  return found
end

--- For each of them: its section of the reference, its class of the types, and what stands before its keys in the reference (or for them).
local places = {
  ["keys.c top_fields"] = { "Top level", "jeton.policy" },
  ["keys.c timeout_fields"] = { "timeouts", "jeton.timeouts" },
  ["keys.c limit_fields"] = { "limits", "jeton.limits" },
  ["keys.c log_fields"] = { "log", "jeton.log.options" },
  ["keys_net.c keepalive_fields"] = { "Top level", "jeton.tcp_keepalive", "tcp_keepalive." },
  ["keys_net.c listener_fields"] = { "listen", "jeton.listen" },
  ["keys_net.c upstream_fields"] = { "upstream and upstreams", "jeton.upstream" },
  ["keys_net.c timeout_fields"] = { "timeouts", "jeton.upstream.timeouts" },
  ["keys_net.c pool_fields"] = { "upstream and upstreams", false, "pool." },
  ["keys_token.c token_fields"] = { "tokens", "jeton.token_options" },
  ["keys_token.c backoff_fields"] = { "tokens", false, "backoff." },
  ["keys_tls.c upstream_fields"] = { "upstream and upstreams", "jeton.tls" },
  ["keys_tls.c certificate_fields"] = { "listen", "jeton.certificate", "{ cert = file, key = file }" },
  ["keys_tls.c listen_fields"] = { "listen", "jeton.listen.tls" },
  ["keys_proxy.c proxy_fields"] = { "upstream and upstreams", "jeton.proxy" },
  ["keys_forward.c forward_fields"] = { "forward", "jeton.forward" },
}

local reference = process.read_file "docs/reference.md"
local types = process.read_file "scripts/jeton/types/policy.lua" .. process.read_file "scripts/jeton/types/jeton.lua"

local function section(title)
  local from = assert(reference:find("\n## " .. title .. "\n", 1, true), title)
  return reference:sub(from, (reference:find("\n## ", from + 1, true)))
end

--- The rows of a section that describe the key.
local function rows(title, prefix, key)
  local found = {}
  for row in section(title):gmatch "\n(| [^\n]*)" do
    local cell = row:match "^| ([^|]*)|"
    if cell:find("`" .. prefix:gsub("%.", "%%.") .. key .. "[`.]") then found[#found + 1] = row end
  end
  return found
end

--- The names of a class's fields, with what it inherits: { [name] = true }
local function class(name)
  local fields, inside, parent = {}, false, nil
  for line in types:gmatch "[^\n]+" do
    local this, of = line:match "^%-%-%-@class ([%w_.]+)( ?:? ?[%w_.]*)"
    if this then inside = this == name end
    if this and inside then parent = of:match ": ([%w_.]+)" end
    local field = inside and line:match "^%-%-%-@field ([%w_]+)"
    if field then fields[field] = true end
  end
  assert(next(fields), name)
  if parent then for field in pairs(class(parent)) do fields[field] = true end end
  return fields
end

--- `"64k"` and `240` and `true` are all written as they are in the code, with or without quotes.
local function says(row, default)
  return row:find('`"' .. default .. '"`', 1, true) or row:find("`" .. default .. "`", 1, true)
end

describe("every key of a policy", function()
  it("belongs to a table that this spec knows", function()
    for name in pairs(tables()) do assert.truthy(places[name], name) end
    for name in pairs(places) do assert.truthy(tables()[name], name) end
  end)

  it("has a row in its section of the reference, with the default of the code", function()
    local numbers = 0
    for name, keys in pairs(tables()) do
      local title, prefix = places[name][1], places[name][3] or ""
      for key, default in pairs(keys) do
        if prefix:find "{" then
          assert.truthy(section(title):find(prefix, 1, true), name)
        else
          local found = rows(title, prefix, key)
          assert.truthy(#found > 0, ("%s: %s has no row under %q"):format(name, prefix .. key, title))
          if default and not (name == "keys.c top_fields" and key == "workers") then
            local right = false
            for _, row in ipairs(found) do right = right or says(row, default) end
            assert.truthy(right, ("%s: %s is %s by default; the reference says: %s"):format(name, prefix .. key, default, found[1]))
            numbers = numbers + 1
          end
        end
      end
    end
    assert.is_true(numbers > 40)
  end)

  it("is typed for editors", function()
    for name, keys in pairs(tables()) do
      local of = places[name][2]
      for key in pairs(keys) do
        if of then assert.is_true(class(of)[key], of .. "." .. key) end
      end
    end
  end)
end)

describe("every word that is one of a few", function()
  it("is described, and typed for editors", function()
    local count = 0
    local function known(word, where, described)
      count = count + 1
      assert.is_truthy(types:find(('"%s"'):format(word), 1, true), where .. ": " .. word .. " has no type")
      assert.is_truthy(described:find(('"%s"'):format(word), 1, true), where .. ": " .. word .. " is not described")
    end
    for _, file in ipairs { "keys.c", "keys_tls.c", "keys_token.c" } do
      for list, body in process.read_file("core/policy/" .. file):gmatch "static const struct choice ([%w_]+)%[%] = (%b{});" do
        for word in body:gmatch '{"([^"]+)"' do known(word, file .. " " .. list, reference) end
      end
    end
    local reasons = assert(process.read_file("core/token/slot.c"):match "fetch_reason_name.-names%[%] = (%b{});")
    for word in reasons:gmatch '"([^"]+)"' do known(word, "ctx.reason", process.read_file "docs/library.md") end
    assert.is_true(count > 15)
  end)
end)

--- What a script finds in the library, as "http.get": { [name] = type }
local function library()
  local lab = require("spec.support.lab").start()
  local found = lab:run [[
    local found = {}
    for name, part in pairs(jeton) do
      found[name] = type(part)
      for inner, value in pairs(name ~= "tokens" and type(part) == "table" and part or {}) do found[name .. "." .. inner] = type(value) end
    end
    return found]]
  lab:finish()
  return found
end

--- What the types declare of `jeton`: functions, aliases of them (`a, b = c, c`), fields and tables.
local function declared()
  local found = class "jeton"
  for name in types:gmatch "\nfunction jeton%.([%w_.]+)%(" do found[name] = true end
  for names in types:gmatch "\n(jeton%.[^=\n]+) = " do
    for name in names:gmatch "jeton%.([%w_.]+)" do found[name] = true end
  end
  return found
end

describe("every function of the library", function()
  it("is typed for editors, and what is typed is there", function()
    local there, typed = library(), declared()
    for name in pairs(there) do assert.is_true(typed[name], "jeton." .. name .. " has no type") end
    for name in pairs(typed) do assert.is_string(there[name], "jeton." .. name .. " is typed, and is not there") end
  end)

  it("is described in the reference of the library", function()
    local text = process.read_file "docs/library.md"
    for name, kind in pairs(library()) do
      local whole, last = "jeton." .. name, "[`, ]%.?" .. name:match "[^.]+$"
      assert.is_truthy(text:find(whole, 1, true) or (kind == "function" and text:find(last .. "[`(]")), "jeton." .. name)
    end
  end)
end)

describe("every method of a handle", function()
  --- Where C lists them, and the class that the types give it.
  local handles = {
    ["lua/l_token.c methods"] = "token", ["lua/l_channel.c methods"] = "channel", ["lua/l_shared.c METHODS"] = "store",
    ["lua/job.c methods"] = "handle", ["proxy/l_headers.c methods"] = "headers", ["proxy/l_exchange.c request_methods + proxy/l_placed.c l_placed_methods"] = "request",
    ["proxy/l_exchange.c response_methods"] = "response",
    ["lua/l_file_lock.c methods"] = "lock",
  }
  for place, object in pairs(handles) do
    it("is typed for editors, and what is typed is there: " .. place, function()
      local body = ""
      for file, list in place:gmatch "(%S+%.c) (%S+)" do
        body = body .. assert(process.read_file("core/" .. file):match("const luaL_Reg " .. list .. "%[%] = (%b{});"))
      end
      local methods = {}
      for name in body:gmatch '{"([%w_]+)"' do methods[name] = true end
      for name in types:gmatch("\nfunction " .. object .. ":([%w_]+)%(") do
        assert.is_truthy(methods[name] or (object == "response" and name == "json"), object .. ":" .. name .. " is typed, and is not there")
        methods[name] = methods[name] and "typed"
      end
      for name, seen in pairs(methods) do assert.equal("typed", seen, object .. ":" .. name .. " has no type") end
    end)
  end
end)

describe("every option of jeton.oauth2 and jeton.jwt", function()
  local modules = { jwt = process.read_file "scripts/jeton/jwt.lua", issuer = process.read_file "scripts/jeton/issuer.lua" }
  for _, part in ipairs { "options", "assertion", "dpop" } do modules[part] = process.read_file("scripts/jeton/oauth2/" .. part .. ".lua") end
  types = types .. process.read_file "scripts/jeton/types/oauth2.lua" .. process.read_file "scripts/jeton/types/jwt.lua"
  local described = process.read_file "docs/library.md"

  for where, of in pairs {
    ["options CLIENT_KEYS"] = "jeton.oauth2.client_credentials", ["issuer TOKEN_KEYS"] = "jeton.oauth2.client_credentials", ["jwt OPTIONS"] = "jeton.jwt.options",
    ["assertion CLIENT_KEYS"] = "jeton.oauth2.assertion", ["assertion GRANT_KEYS"] = "jeton.oauth2.jwt", ["dpop KEYS"] = "jeton.oauth2.dpop.options",
  } do
    it("is typed for editors and described: " .. where, function()
      local module, list = where:match "(%S+) (%S+)"
      local body, count = assert(modules[module]:match("\n[%a ]*[ .]" .. list .. " = (%b{})")), 0
      for key in (body:gsub("= true", "")):gmatch "[%w_]+" do
        count = count + 1
        assert.is_true(class(of)[key], of .. "." .. key)
        if list ~= "TOKEN_KEYS" then assert.is_truthy(described:find("`" .. key .. "`", 1, true) or described:find("%f[%w]" .. key .. " ="), key) end
      end
      assert.is_true(count > 1)
    end)
  end

  it("is typed for editors and described: those of one grant alone", function()
    local text, count = process.read_file "scripts/jeton/oauth2.lua" .. process.read_file "scripts/jeton/oauth2/exchange.lua", 0
    for name, own in text:gmatch 'name = "([%w_]+)",\n%s*own = (%b{})' do
      count = count + 1
      for key in (own:gsub("= true", "")):gmatch "[%w_]+" do
        assert.is_true(class("jeton.oauth2." .. name)[key], name .. "." .. key)
        assert.is_truthy(described:find("`" .. key .. "`", 1, true), key)
      end
    end
    assert.equal(7, count)
  end)
end)

--- The anchors of a page, as they are made of its headings: small letters, no punctuation, '-' for a space.
local function anchors(text)
  local found = {}
  for title in ("\n" .. text:gsub("\n```.-\n```", "")):gmatch "\n#+ ([^\n]+)" do
    found[title:lower():gsub("[^%w _-]", ""):gsub(" ", "-")] = true
  end
  return found
end

describe("the documents", function()
  it("have no link that leads nowhere", function()
    local pages = {}
    for page in io.popen("find * -name node_modules -prune -o -name '*.md' -print"):lines() do pages[page] = process.read_file(page) end
    assert.is_truthy(pages["docs/guide.md"])
    for page, text in pairs(pages) do
      for target in text:gsub("\n```.-\n```", ""):gmatch "%]%(([^)%s]+)%)" do
        local path, anchor = target:match "^([^#]*)#?(.*)$"
        if not path:find "^https?:" then
          local file = path == "" and page or page:match "^(.-)[^/]*$" .. path
          while file:find "[^/]+/%.%./" do file = file:gsub("[^/]+/%.%./", "", 1) end
          assert.is_truthy(uv.fs_stat(file), page .. ": " .. target)
          if anchor ~= "" then assert.is_true(anchors(pages[file] or process.read_file(file))[anchor], page .. ": " .. target) end
        end
      end
    end
  end)

  it("say what each counter of status counts", function()
    local text, n = process.read_file "docs/operations.md", 0
    for name in process.read_file("core/proxy/worker_counts.h"):gmatch "XX%(([%l_]+), %l+, \"" do
      n = n + 1
      assert.is_truthy(text:find("`" .. name .. "`", 1, true), name)
    end
    assert.is_true(n > 15)
  end)

  it("name no file of the tree that is not there", function()
    for _, page in ipairs { "README.md", "docs/guide.md", "docs/operations.md", "docs/internals.md", "docs/performance.md", "docs/library.md", "docs/reference.md", "docs/grpc.md", "docs/http2.md" } do
      for name in process.read_file(page):gmatch "`([%w_./-]+)`" do
        local own = name:match "^[%w_]+/[%w_/]+%.[ch]$" and "core/" .. name
        if own or name:find "^spec/" or name:find "^core/" or name:find "^examples/" then
          assert.is_truthy(uv.fs_stat(name) or own and uv.fs_stat(own), page .. ": " .. name)
        end
      end
    end
  end)
end)
