--- AWS's two files with profiles, ~/.aws/credentials and ~/.aws/config ("Configuration and credential file settings" in the guide of AWS's command line). A part of
--- jeton.aws.

local M = {}

--- { name = { key = value } } of a file's text. A line that begins with white space belongs to a setting of several lines, none of which is a credential.
local function parse(text, of_config)
  local sections, section = {}, nil
  for line in (text:gsub("^\xEF\xBB\xBF", "") .. "\n"):gmatch "(.-)\r?\n" do
    local name = line:match "^%[%s*(.-)%s*%]"
    if name then
      if of_config then name = name:match "^profile%s+[\"']?(.-)[\"']?$" or (name == "default" and name) end
      section = name and (sections[name] or {})
      if name then sections[name] = section end
    elseif section and not line:find "^%s" and not line:find "^[#;]" then
      local key, value = line:match "^([^=]-)%s*=%s*(.-)%s*$"
      if key then section[key:lower()] = value end
    end
  end
  return sections
end

--- The sections of a file; none where there is no such file; or nil, message.
---@async
local function read(path, of_config)
  local text, why, code = jeton.file.read(path)
  if text then return parse(text, of_config) end
  if code == "ENOENT" then return {} end
  return nil, ("%s: %s"):format(path, why)
end

--- All profiles of the two files: what stands in `credentials` goes before what stands in `config`. Or nil, message.
---@async
function M.profiles(credentials, config)
  local all, more, why
  all, why = read(config, true)
  if not all then return nil, why end
  more, why = read(credentials, false)
  if not more then return nil, why end
  for name, section in pairs(more) do
    all[name] = all[name] or {}
    for key, value in pairs(section) do all[name][key] = value end
  end
  return all
end

return M
