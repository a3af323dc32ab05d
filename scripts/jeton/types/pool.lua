---@meta jeton.pool
-- luacheck: ignore
-- Types of jeton.pool for editors with the Lua language server. Not loaded by jeton.

---@class jeton.pool.options
---@field tokens string[] names of tokens in the policy
---@field name? string where a policy has several pools
---@field choose? "round_robin"|"least_used" round_robin unless it is given
---@field rest_on? integer[] statuses; { 429 } unless it is given
---@field rest? number seconds, where the reply has no Retry-After; 60 unless it is given
---@field longest? number seconds, whatever Retry-After says; 3600 unless it is given
---@field window? number seconds over which uses are counted; 60 unless it is given
---@field retry? boolean false: what a limit answers is relayed

---@class jeton.pool
local pool = {}
---@param req jeton.request
---@param tokens jeton.tokens
---@return jeton.token? nil: all keys rest, and the client has been answered
function pool:choose(req, tokens) end
---@param res jeton.response
---@param req jeton.request
---@return boolean again
function pool:answered(res, req) end
---@return { token: string, resting: number?, used: integer }[]
function pool:status() end
