--- A flame graph: stacks of `perf script` folded into a tree, the tree drawn as SVG. Width is share of the samples, colour is where the code
--- is from. No script in the picture: the name and share of a frame is its tooltip.
local M = {}

local WIDTH, ROW, MARGIN, TOP = 1200, 15, 10, 58 -- px
local NARROWEST = 0.002                          -- share; narrower frames are left out
local CHARACTER = 6.2                            -- px, of 11 px text

--- Where code is from, in the order of the legend: name, colour, and whether a frame is of it.
M.parts = {
  { "jeton", "#e8743b", function(f) return f.object:find("/jeton", 1, true) and not f.name:find "^llhttp" end },
  { "llhttp", "#ecb43f", function(f) return f.name:find "^llhttp" end },
  { "Lua", "#5b8ff9", function(f) return f.object:find("liblua", 1, true) end },
  { "libuv", "#61c0a8", function(f) return f.object:find("libuv", 1, true) end },
  { "C library", "#9f8bd0", function(f) return f.object:find("/lib", 1, true) or f.object:find("vdso", 1, true) end },
  { "kernel", "#b8bec8", function() return true end },
}
local function part_of(frame)
  for i, part in ipairs(M.parts) do
    if part[3](frame) then return i end
  end
end

--- Samples of `perf script`, each a list of frames from the outermost in: { name, object }.
function M.samples(lines)
  local samples, current, object = {}, nil, nil
  for line in lines do
    local name, where = line:match "^%s+%x+ (.-) %(([^()]*)%)$"
    if name and where ~= "[unknown]" then
      if where == "inlined" then where = object or "" else object = where end
      table.insert(current, 1, { name = name == "[unknown]" and "in " .. where:match "[^/]*$" or (name:gsub("%+0x%x+$", "")), object = where })
    elseif line == "" then
      current = nil
    elseif not name then
      current = {}
      samples[#samples + 1] = current
    end
  end
  return samples
end

-- perf names the innermost frame of a system call's wrapper twice: what repeats its caller is passed over.
local function add(root, sample)
  local node = root
  node.count = node.count + 1
  for _, frame in ipairs(sample) do
    if frame.name ~= node.name then
      local child = node.children[frame.name]
      if not child then
        child = { name = frame.name, part = part_of(frame), count = 0, children = {} }
        node.children[frame.name] = child
      end
      child.count = child.count + 1
      node = child
    end
  end
end

function M.tree(samples)
  local root = { name = "all", part = #M.parts, count = 0, children = {} }
  for _, sample in ipairs(samples) do add(root, sample) end
  return root
end

--- { part's name = share of the samples whose innermost frame is of it }.
function M.shares(samples)
  local shares = {}
  for _, part in ipairs(M.parts) do shares[part[1]] = 0 end
  for _, sample in ipairs(samples) do
    local innermost = sample[#sample]
    if innermost then
      local name = M.parts[part_of(innermost)][1]
      shares[name] = shares[name] + 1 / #samples
    end
  end
  return shares
end

local function escaped(text) return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" })) end

local function depth_of(node, total)
  local deepest = 0
  for _, child in pairs(node.children) do
    if child.count / total >= NARROWEST then deepest = math.max(deepest, depth_of(child, total)) end
  end
  return deepest + 1
end

local function sorted_children(node)
  local list = {}
  for _, child in pairs(node.children) do list[#list + 1] = child end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

local function draw(out, node, total, x, y)
  local width = node.count / total * (WIDTH - 2 * MARGIN)
  local title = ("%s: %.1f %%"):format(node.name, node.count / total * 100)
  local room = math.floor((width - 4) / CHARACTER)
  local label = room >= 3 and (#node.name <= room and node.name or node.name:sub(1, room - 1) .. "…") or ""
  out[#out + 1] = ('<g><title>%s</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>%s</g>'):format(
    escaped(title), x, y, math.max(width - 0.4, 0.3), ROW - 1, M.parts[node.part][2],
    label ~= "" and ('<text x="%.1f" y="%d">%s</text>'):format(x + 3, y + 11, escaped(label)) or "")
  for _, child in ipairs(sorted_children(node)) do
    if child.count / total >= NARROWEST then
      draw(out, child, total, x, y - ROW)
      x = x + child.count / total * (WIDTH - 2 * MARGIN)
    end
  end
end

local function legend(out, shares)
  local x = MARGIN
  for _, part in ipairs(M.parts) do
    local text = ("%s %.0f %%"):format(part[1], shares[part[1]] * 100)
    out[#out + 1] = ('<rect x="%d" y="34" width="12" height="12" fill="%s"/><text x="%d" y="44">%s</text>'):format(x, part[2], x + 17, text)
    x = x + 40 + math.ceil(#text * CHARACTER)
  end
end

--- The picture, as text.
function M.svg(samples, title)
  local root = M.tree(samples)
  local height = TOP + depth_of(root, root.count) * ROW + MARGIN
  local out = {
    ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">'):format(WIDTH, height),
    '<rect width="100%" height="100%" fill="#fff"/>',
    ('<text x="%d" y="22" font-size="15">%s</text>'):format(MARGIN, escaped(title)),
  }
  legend(out, M.shares(samples))
  draw(out, root, root.count, MARGIN, height - MARGIN - ROW)
  out[#out + 1] = "</svg>\n"
  return table.concat(out, "\n")
end

return M
