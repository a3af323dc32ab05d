"""botocore as a client that knows no credentials of its own: argv: the URL of jeton. Prints what it read back, as JSON."""
import json
import sys

import botocore.config
import botocore.session

url = sys.argv[1]
session = botocore.session.get_session()
session.set_credentials("anything", "else")


def client(name, **config):
    return session.create_client(name, region_name="us-east-1", endpoint_url=url, config=botocore.config.Config(retries={"max_attempts": 0}, connect_timeout=20, read_timeout=20, **config))


dynamodb, s3 = client("dynamodb"), client("s3", s3={"addressing_style": "path"})
dynamodb.create_table(
    TableName="table",
    KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)
dynamodb.get_waiter("table_exists").wait(TableName="table", WaiterConfig={"Delay": 1, "MaxAttempts": 10})
dynamodb.put_item(TableName="table", Item={"k": {"S": "a"}, "v": {"N": "1"}})
read = {"item": dynamodb.get_item(TableName="table", Key={"k": {"S": "a"}})["Item"]["v"]["N"]}

s3.create_bucket(Bucket="bucket")
for key in ("plain", "with space+plus/é(1)*~.txt", "a=b&c"):
    s3.put_object(Bucket="bucket", Key=key, Body=key.encode(), Metadata={"mine": "  two   spaces "})
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == key.encode(), key
    s3.head_object(Bucket="bucket", Key=key)
read["keys"] = [o["Key"] for o in s3.list_objects_v2(Bucket="bucket", Prefix="")["Contents"]]
part = b"x" * (5 * 1024 * 1024)
upload = s3.create_multipart_upload(Bucket="bucket", Key="big")["UploadId"]
tag = s3.upload_part(Bucket="bucket", Key="big", UploadId=upload, PartNumber=1, Body=part)["ETag"]
s3.complete_multipart_upload(Bucket="bucket", Key="big", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
read["big"] = s3.head_object(Bucket="bucket", Key="big")["ContentLength"]
s3.delete_object(Bucket="bucket", Key="plain")
print(json.dumps(read))
