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

--- Makes reading what the module has not an error at the reader's line; gives the module back.
---@generic T: table
---@param name string as it is required
---@param module T
---@return T
function M.strict(name, module)
  return setmetatable(module, {
    __index = function(_, key) error(("%s has no '%s': %s"):format(name, tostring(key), M.known(module)), 2) end,
    __metatable = false,
  })
end

return M
