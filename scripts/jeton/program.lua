--- A program that prints a credential, for the modules that take one: run without a shell, and what it says when it fails. Standard output is the credential, and is
--- shown nowhere; what stands on standard error is in the message, in one line and without what was sent.

local M = {}

local SHOWN_MAX = 200

--- What it says of its failure, on one line.
local function said(done)
  local text = jeton.log.masked(done.stderr):gsub("[%c%s]+", " "):match "^%s*(.-)%s*$"
  return text == "" and "" or ": " .. text:sub(1, SHOWN_MAX)
end

--- What the program prints, or nil, message. argv: the program and its arguments; options: env, cwd and timeout; env: what goes into its environment beside
--- options.env, which is the policy's; stdin: as of jeton.exec.
---@async
function M.run(options, argv, env, stdin)
  local call = { table.unpack(argv) }
  call.env = {}
  for _, part in ipairs { env or {}, options.env or {} } do
    for name, value in pairs(part) do call.env[name] = value end
  end
  call.stdin, call.cwd, call.timeout = stdin, options.cwd, options.timeout
  local done, why = jeton.exec(call)
  if not done then return nil, why end
  if done.signal then return nil, ("%s was ended by signal %d%s"):format(argv[1], done.signal, said(done)) end
  if done.status ~= 0 then return nil, ("%s ended with %d%s"):format(argv[1], done.status, said(done)) end
  return done.stdout
end

--- What it prints as a table, or nil, message.
---@async
function M.run_json(options, argv, env)
  local text, why = M.run(options, argv, env)
  if not text then return nil, why end
  local body, not_json = jeton.json.decode(text)
  if type(body) ~= "table" then return nil, ("%s printed what is not a JSON object%s"):format(argv[1], not_json and ": " .. not_json or "") end
  return body
end

return M
