--- Names that are not there are answered with those that are: of a module's functions and of options. For the modules shipped with jeton; its C parts
--- do the same by themselves.

local M = {}

--- "there are a, b and c", for the keys of a set.
function M.known(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  local last = table.remove(names)
  return #names == 0 and "there is " .. last or ("there are %s and %s"):format(table.concat(names, ", "), last)
end

--- How many letters have to change for one to become the other (Levenshtein).
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local before = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      before, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, before + cost)
    end
  end
  return row[#b]
end

--- The name of the set that was probably meant, or nil.
local function nearest(set, name)
  local best, least = nil, math.max(2, #name // 3 + 1)
  for known in pairs(set) do
    local far = distance(name, known)
    if far < least or (far == least and best and known < best) then best, least = known, far end
  end
  return best
end

--- "did you mean 'scope'?", or all there is when no name is near.
function M.meant(set, name)
  local near = type(name) == "string" and #name <= 40 and nearest(set, name)
  return near and ("did you mean '%s'?"):format(near) or M.known(set)
end

--- Each key of `given` has to be one of the set's; else fail(text, …) is called, which raises. where: of which option these are the keys, if of one.
function M.check(set, given, fail, where)
  for key in pairs(given) do
    if not set[key] then fail("unknown option '%s%s': %s", where and where .. "." or "", tostring(key), M.meant(set, key)) end
  end
end

--- Makes reading what the module has not an error at the reader's line; gives the module back.
---@generic T: table
---@param name string as it is required
---@param module T
---@return T
function M.strict(name, module)
  return setmetatable(module, {
    __index = function(_, key) error(("%s has no '%s': %s"):format(name, tostring(key), M.meant(module, key)), 2) end,
    __metatable = false,
  })
end

return M
