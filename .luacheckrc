std = "lua54+busted"
max_line_length = 165
files["spec"].max_line_length = false -- policies stand in strings
files["scripts"].globals = { "jeton" }
files["examples"].globals = { "jeton" }
files["spec/support/peers/token_peer.lua"].globals = { "jeton" }
files["scripts/jeton/types"].ignore = { "111", "112", "113", "121", "211", "212", "241" }
