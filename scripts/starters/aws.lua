-- A jeton policy for AWS's APIs: each request is signed (Signature Version 4) as it is sent.
--   jeton check policy.lua          says what is wrong with it
--   jeton run policy.lua --watch    runs it, and reloads it whenever it is saved
-- Then: aws s3 ls s3://my-bucket --endpoint-url http://127.0.0.1:8080 (with any keys of its own: they are replaced)

local aws = require "jeton.aws"

return {
  listen = "127.0.0.1:8080",

  -- Where requests go. Only this server is given signatures.
  upstream = "https://s3.eu-west-1.amazonaws.com",

  tokens = {
    -- On an instance of EC2: the role that it has. Nothing has to be kept.
    aws = aws.imds(),

    -- In a task of ECS or a pod of EKS, for a role there, from AWS's own files, and from keys:
    -- aws = aws.ecs(),
    -- aws = aws.web_identity(),
    -- aws = aws.profile { name = "default" },
    -- aws = aws.assume_role { role_arn = "arn:aws:iam::123456789012:role/reports", from = aws.imds() },
    -- aws = aws.static { access_key_id = "AKIA…", secret_access_key = jeton.secret.file "/run/secrets/aws" },
  },

  -- Runs before each try: what it signs is never older than the credentials that it signs with.
  on_send = function(req, tokens)
    aws.sign(req, tokens.aws, { service = "s3", region = "eu-west-1" }) -- payload = "unsigned" streams large uploads
  end,
}
