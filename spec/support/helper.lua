--- Runs once before the specs: whatever a spec starts ends with the spec's file, also when it fails.
local process = require "spec.support.process"
local busted = require "busted"

busted.subscribe({ "file", "end" }, function()
  process.clean()
  return nil, true
end)
busted.subscribe({ "suite", "end" }, function()
  process.clean()
  return nil, true
end)
