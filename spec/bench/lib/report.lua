--- Tables: on the terminal, and as Markdown between the marks of a page (<!-- bench NAME --> … <!-- end -->), so that a run of a few cases
--- replaces what it measured and leaves the rest.
local process = require "spec.support.process"

local M = {}

-- Columns of the usual table: heading, and how a result is shown there.
local function micro(v) return v and ("%.1f"):format(v * 1e6) or "" end
local function milli(v) return v and ("%.2f"):format(v * 1e3) or "" end

M.usual = {
  { "", function(r) return r.name end },
  { "CPU/request µs", function(r) return micro(r.cpu) end },
  { "of nginx", function(r, reference) return reference and ("%.2f"):format(r.cpu / reference.cpu) or "" end },
  { "requests/s", function(r) return ("%.0f"):format(r.rate) end },
  { "p50 ms", function(r) return milli(r.p50) end },
  { "p99 ms", function(r) return milli(r.p99) end },
  { "p99.9 ms", function(r) return milli(r.p999) end },
  { "resident MiB", function(r) return ("%.1f"):format(r.resident / 2 ^ 20) end },
  { "failed", function(r) return ("%d"):format(r.failed) end },
}

local function width(text) return utf8.len(text) or #text end

--- { title =, text? =, columns =, rows = lists of strings } of results; `reference` is the name that ratios refer to.
function M.table(title, columns, results, reference)
  local base
  for _, r in ipairs(results) do
    if r.name == reference then base = r end
  end
  local t = { title = title, columns = {}, rows = {} }
  for i, column in ipairs(columns) do t.columns[i] = column[1] end
  for i, r in ipairs(results) do
    t.rows[i] = {}
    for j, column in ipairs(columns) do t.rows[i][j] = column[2](r, base) end
  end
  return t
end

local function widths(t)
  local w = {}
  for _, row in ipairs { t.columns, table.unpack(t.rows) } do
    for i, cell in ipairs(row) do w[i] = math.max(w[i] or 3, width(cell)) end
  end
  return w
end

local function padded(row, w)
  local cells = {}
  for i = 1, #w do
    local cell, space = row[i] or "", (" "):rep(w[i] - width(row[i] or ""))
    cells[i] = i == 1 and cell .. space or space .. cell
  end
  return cells
end

--- As lines of Markdown, which also read well on a terminal.
function M.markdown(t)
  local w, lines = widths(t), { "### " .. t.title, "" }
  if t.text then table.move({ t.text, "" }, 1, 2, #lines + 1, lines) end
  lines[#lines + 1] = "| " .. table.concat(padded(t.columns, w), " | ") .. " |"
  local rule = {}
  for i = 1, #w do rule[i] = i == 1 and ("-"):rep(w[i]) or ("-"):rep(w[i] - 1) .. ":" end
  lines[#lines + 1] = "| " .. table.concat(rule, " | ") .. " |"
  for _, row in ipairs(t.rows) do lines[#lines + 1] = "| " .. table.concat(padded(row, w), " | ") .. " |" end
  return table.concat(lines, "\n") .. "\n"
end

--- Puts `text` between the marks of `name` in the page; a page without them is an error, since the text would be lost.
function M.replace(path, name, text)
  local page = process.read_file(path)
  local from = select(2, page:find("<!-- bench " .. name .. " -->\n", 1, true))
  local to = from and page:find("<!-- end -->", from, true)
  if not to then error(("%s has no marks <!-- bench %s --> … <!-- end -->"):format(path, name), 0) end
  process.write_file(path, page:sub(1, from) .. "\n" .. text .. "\n" .. page:sub(to))
end

return M
