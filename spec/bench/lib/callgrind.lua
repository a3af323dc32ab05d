--- callgrind: how to run it, and reading what it wrote (https://valgrind.org/docs/manual/cl-format.html).
local M = {}

--- The command before a program's own: it writes OUT-01, OUT-02 and so on, one for each thread. without: functions (patterns) that are not counted, nor what they call.
function M.prefix(out, without)
  local argv = { "valgrind", "--quiet", "--tool=callgrind", "--separate-threads=yes", "--callgrind-out-file=" .. out }
  for _, name in ipairs(without or {}) do argv[#argv + 1] = "--toggle-collect=" .. name end
  argv[#argv + 1] = "--collect-atstart=yes" -- behind those, which would have it off
  return argv
end

--- The compiler's own clones count with the function that they were made from.
local function plain(name)
  return (name:gsub("%.lto_priv%.%d+", ""):gsub("%.constprop%.%d+", ""):gsub("%.isra%.%d+", ""):gsub("%.part%.%d+", ""):gsub("%.cold$", ""):gsub("'%d+$", ""))
end

--- Names stand in the file once, with a number, wherever the first mention is: `fn=(7) step`, later `fn=(7)`. A function without a symbol is
--- named by its library.
local function dictionary()
  local known = {}
  return function(id, text, object)
    if text ~= "" then known[id] = text:find "^0x" and object and "in " .. object:match "[^/]*$" or plain(text) end
    return known[id]
  end
end

--- { function = instructions in itself }.
function M.functions(path)
  local functions, objects = dictionary(), dictionary()
  local costs, current, object, called_object, skip = {}, nil, nil, nil, false
  for line in io.lines(path) do
    local key, id, text = line:match "^(c?%l+)=%((%d+)%) ?(.*)$"
    if key == "ob" then
      object = objects(id, text)
    elseif key == "cob" then
      called_object = objects(id, text)
    elseif key == "fn" then
      current = functions(id, text, object)
    elseif key == "cfn" then
      functions(id, text, called_object or object)
    elseif line:find("calls=", 1, true) == 1 then
      skip, called_object = true, nil -- the next line is the cost of what is called
    else
      local cost = line:match "^[%d+*-]%S* (%d+)$"
      if cost and current and not skip then costs[current] = (costs[current] or 0) + math.tointeger(cost) end
      if cost then skip = false end
    end
  end
  return costs
end

return M
