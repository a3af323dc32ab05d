--- Draws who waited for whom in a run of record.lua: lua5.4 draw.lua STORE LOG > PICTURE.svg. Not a policy.

local store, path = arg[1], arg[2]
local TITLES = {
  ["1-channels"] = "1 · One owner: while it waits for the issuer, every request waits for it",
  ["2-interim"] = "2 · An interim hands out the old token: nobody waits, and two have to agree who is the owner",
  ["3-mutex"] = "3 · A variable behind a lock: requests read what is there, and nobody waits for a fetch",
}
local BUSY = {
  ["1-channels"] = "1 · On a busy machine: everybody waits until owner and issuer are through",
  ["2-interim"] = "2 · On a busy machine: the old token ends, and is handed out all the same",
  ["3-mutex"] = "3 · On a busy machine: who comes after the old token's end waits for the new one",
}
local REFUSED = "#d00000"
local COLOURS = { "#2f6db3", "#d9822b", "#3f9b63", "#a4509b", "#5c6bc0", "#8d6e3f" }
local WIDTH, LEFT, RIGHT = 960, 110, 20
local SPAN, BEFORE = 4.6, 0.9 -- seconds shown, and how many of them before the first refresh
local LANE, TOP, PLOT = 30, 64, 200

--- The notes: { fetches = { {begun, over, life} }, visits = { {begun, over, status, token, left} } }, in the order of time.
local function read(file)
  local notes = { fetches = {}, visits = {} }
  for line in assert(io.open(file)):lines() do
    local what, fields = line:match "record%.lua:%d+: (%a+) (.*)$"
    local list = what == "fetch" and notes.fetches or what == "visit" and notes.visits
    if list then
      local entry = {}
      for name, value in fields:gmatch "(%a+)=([%d.]+)" do entry[name] = tonumber(value) end
      list[#list + 1] = entry
    end
  end
  table.sort(notes.visits, function(a, b) return a.begun < b.begun end)
  assert(#notes.fetches >= 4 and #notes.visits > 500, "the run was too short: let it go on for 12 seconds")
  return notes
end

local notes = read(path)
local t0 = notes.fetches[2].begun - BEFORE -- the first fetch is the start, for which all have to wait
local out, y = {}, TOP

-- Of each token: when the issuer made it, when it ends, and when it was accepted last. The upstream says with each reply how long it is still good for, in tenths of
-- a second; over all replies the mean is closer.
for _, v in ipairs(notes.visits) do
  local f = v.token and notes.fetches[v.token]
  if f then
    f.n, f.sum, f.last = (f.n or 0) + 1, (f.sum or 0) + v.over + v.left - f.over, v.over
    f.ends = f.over + f.sum / f.n
    f.made = f.ends - f.life
  end
end

--- What the picture shows.
local shown = { n = 0, longest = 0, refused = 0 }
for _, v in ipairs(notes.visits) do
  if v.begun >= t0 and v.begun <= t0 + SPAN then
    shown.n = shown.n + 1
    shown[shown.n] = v
    shown.longest = math.max(shown.longest, v.over - v.begun)
    if v.status ~= 200 then shown.refused = shown.refused + 1 end
  end
end
local busy = false -- an answer that lay there
for _, f in ipairs(notes.fetches) do busy = busy or f.over < t0 + SPAN and f.made and f.over - f.made > 0.3 end
local MAX_WAIT = busy and 1.8 or 0.6

local function x_of(t) return math.max(LEFT, math.min(WIDTH - RIGHT, LEFT + (t - t0) / SPAN * (WIDTH - LEFT - RIGHT))) end
local function put(fmt, ...) out[#out + 1] = fmt:format(...) end
local function colour(token) return COLOURS[(token - 1) % #COLOURS + 1] end
local function text(x, at, size, anchor, fill, words)
  put('<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s">%s</text>', x, at, size, anchor, fill, words)
end

--- A piece of a lane; words are left out where they do not fit.
local function bar(from, to, fill, ink, words)
  local x, w = x_of(from), x_of(to) - x_of(from)
  if w < 1 then return end
  put('<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="3" fill="%s"/>', x, y, w, LANE - 8, fill)
  if w > utf8.len(words) * 6.2 then text(x + w / 2, y + 15, 11, "middle", ink, words) end
end

local function lane(name)
  text(LEFT - 10, y + 15, 12, "end", "#333", name)
end

--- fn(k, from, to): token k is the one that is offered between these times; the k-th fetch brings token k.
local function each_token(fn)
  for k, f in ipairs(notes.fetches) do
    local next_fetch = notes.fetches[k + 1]
    fn(k, f.over, next_fetch, next_fetch and next_fetch.over or t0 + SPAN)
  end
end

local function issuer_lane()
  lane "issuer"
  for k, f in ipairs(notes.fetches) do bar(f.begun, f.made or f.over, "#555", "#fff", "makes token " .. k) end
  y = y + LANE
end

local LANES = {}
LANES["1-channels"] = function()
  lane "owner"
  each_token(function(k, from, next_fetch, to)
    bar(from, next_fetch and next_fetch.begun or to, colour(k), "#fff", "offers token " .. k)
    if next_fetch then bar(next_fetch.begun, next_fetch.over, "url(#waits)", "#900", "waits") end
  end)
  y = y + LANE
end
LANES["2-interim"] = function()
  LANES["1-channels"]()
  lane "interim"
  each_token(function(k, _, next_fetch)
    if next_fetch then bar(next_fetch.begun, next_fetch.over, colour(k), "#fff", "offers token " .. k) end
  end)
  y = y + LANE
end
LANES["3-mutex"] = function()
  lane "keeper"
  for _, f in ipairs(notes.fetches) do bar(f.begun, f.over, "url(#waits)", "#900", "waits") end
  y = y + LANE
  lane "slot"
  each_token(function(k, from, _, to) bar(from, math.min(to, notes.fetches[k].last or to), colour(k), "#fff", "token " .. k) end)
  y = y + LANE
end

--- Where a token ended before there was another.
local function mark_ends(base)
  for k, f in ipairs(notes.fetches) do
    local ends, follower = f.ends, notes.fetches[k + 1]
    if ends and ends < t0 + SPAN and follower and follower.over > ends then
      put('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-dasharray="4 3"/>', x_of(ends), base - PLOT, x_of(ends), base, REFUSED)
      text(x_of(ends) - 4, base - PLOT + 12, 11, "end", REFUSED, ("token %d ends"):format(k))
    end
  end
end

--- Each request is a line at the time when it came, as high as it waited for its token, in that token's colour.
local function plot()
  local base = y + 30 + PLOT
  text(LEFT, y + 14, 12, "start", "#333", "each request, when it came: in how many milliseconds it was answered, and which token it had")
  for ms = 0, MAX_WAIT * 1000, MAX_WAIT * 1000 // 6 do
    local at = base - ms / 1000 / MAX_WAIT * PLOT
    put('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#e4e4e4"/>', LEFT, at, WIDTH - RIGHT, at)
    text(LEFT - 10, at + 4, 10, "end", "#777", ("%d"):format(ms // 1))
  end
  for _, f in ipairs(notes.fetches) do
    local x, w = x_of(f.begun), x_of(f.over) - x_of(f.begun)
    if w >= 1 then put('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#000" fill-opacity="0.05"/>', x, base - PLOT, w, PLOT) end
  end
  local lines = {} -- by colour: the lines of one are one path
  for _, v in ipairs(shown) do
    local height = math.max(math.min(v.over - v.begun, MAX_WAIT) / MAX_WAIT * PLOT, 3)
    local ink = v.status == 200 and colour(v.token) or REFUSED
    lines[ink] = (lines[ink] or "") .. ("M%.1f %dv-%.1f"):format(x_of(v.begun), base, height)
  end
  for _, ink in ipairs { REFUSED, table.unpack(COLOURS) } do
    if lines[ink] then put('<path stroke="%s" stroke-width="1.6" d="%s"/>', ink, lines[ink]) end
  end
  if busy then mark_ends(base) end
  for s = 0, math.floor(SPAN) do text(x_of(t0 + s), base + 16, 10, "middle", "#777", s .. " s") end
  y = base + 28
end

local function summary()
  text(LEFT, 46, 12, "start", "#555", ("%d requests in %.1f s; the longest took %.0f ms; %d were refused%s"):format(
    shown.n, SPAN, shown.longest * 1000, shown.refused, shown.refused > 0 and ", in red: their token had ended" or ""))
end

text(LEFT, 26, 16, "start", "#111", (busy and BUSY or TITLES)[store])
summary()
issuer_lane()
LANES[store]()
plot()
io.write(([[
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif">
<defs><pattern id="waits" width="7" height="7" patternTransform="rotate(45)" patternUnits="userSpaceOnUse">
<rect width="7" height="7" fill="#f6dcdc"/><line x1="0" y1="0" x2="0" y2="7" stroke="#dba3a3" stroke-width="3"/></pattern></defs>
<rect width="100%%" height="100%%" fill="#fff"/>
%s
</svg>
]]):format(WIDTH, y, table.concat(out, "\n")))
