#!/bin/sh
# ca.sh DIR: makes a throw-away certificate authority and the certificates that specs need. Every NAME.pem has its NAME.key.
#
#   ca, other-ca            roots (the second one is trusted by nobody)
#   rsa, ecdsa              good server certificates for localhost, 127.0.0.1 and ::1
#   dns-only                good, for localhost alone: not for 127.0.0.1
#   expired (on 2020-01-02) future (from 2099-01-01) wrong-name (other.example)
#   no-name                 CN=localhost and no subjectAltName
#   self-signed, foreign    for localhost; by itself, by other-ca
#   wildcard, exact         *.example.com; a.example.com
#   chained                 by an intermediate; chained.pem holds the intermediate too, lone.pem does not
#   limited, limited-hard   for localhost, by an intermediate that may only sign for corp.example (name constraints, not critical and critical)
#   mail-only               for localhost, by an intermediate that is meant for mail (extended key usage)
#   ed25519, weak           good but for their keys: Ed25519, RSA of 1024 bits
#   client, foreign-client, expired-client   client certificates of "reports" by ca, other-ca, ca; other-client of "somebody" by ca
# And: ecdsa.pin, exact.pin (sha256/BASE64 of the public key), rsa.pub and ecdsa.pub (public keys), encrypted.key, p384.key and p384.pub.
set -eu
mkdir -p "$1"
cd "$1"
umask 077

cat > ca.cnf <<'CNF'
[ca]
default_ca = here
[here]
database = index
new_certs_dir = issued
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = dn
prompt = no
[dn]
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[limited]
basicConstraints = critical,CA:TRUE
nameConstraints = permitted;DNS:corp.example
[limited-hard]
basicConstraints = critical,CA:TRUE
nameConstraints = critical,permitted;DNS:corp.example
[mail-only]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
extendedKeyUsage = emailProtection
[server]
basicConstraints = CA:FALSE
keyUsage = digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth
[client]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
CNF
mkdir -p issued
: > index

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null; }

root() { # NAME CN
  key "$1"
  openssl req -config ca.cnf -new -x509 -key "$1.key" -subj "/CN=$2" -extensions root -days 3650 -out "$1.pem"
}

# issue NAME CA SECTION CN SAN [START END]: signs NAME.key, which is made unless it is there
issue() {
  [ -e "$1.key" ] || key "$1"
  openssl req -config ca.cnf -new -key "$1.key" -subj "/CN=$4" ${5:+-addext "subjectAltName=$5"} -out req.csr
  openssl ca -config ca.cnf -batch -notext -cert "$2.pem" -keyfile "$2.key" -extensions "$3" -in req.csr -out "$1.pem" \
    -startdate "${6:-20200101000000Z}" -enddate "${7:-20480101000000Z}" 2>/dev/null
}

local="DNS:localhost,IP:127.0.0.1,IP:::1"
root ca "jeton test CA"
root other-ca "another test CA"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key 2>/dev/null
issue rsa ca server localhost "$local"
issue ecdsa ca server localhost "$local"
issue dns-only ca server localhost DNS:localhost
issue expired ca server localhost "$local" 20190101000000Z 20200102000000Z
issue future ca server localhost "$local" 20990101000000Z 20991231000000Z
issue wrong-name ca server other.example DNS:other.example
issue no-name ca server localhost ""
issue foreign other-ca server localhost "$local"
issue wildcard ca server wildcard "DNS:*.example.com"
issue exact ca server exact DNS:a.example.com
issue intermediate ca root "jeton test intermediate" ""
issue chained intermediate server localhost "$local"
cp chained.pem lone.pem
cp chained.key lone.key
cat intermediate.pem >> chained.pem
for limits in limited limited-hard mail-only; do
  issue intermediate-$limits ca $limits "jeton test intermediate $limits" ""
  issue $limits intermediate-$limits server localhost "$local"
  cat intermediate-$limits.pem >> $limits.pem
done
openssl genpkey -algorithm ED25519 -out ed25519.key 2>/dev/null
issue ed25519 ca server localhost "$local"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key 2>/dev/null
issue weak ca server localhost "$local"
issue client ca client reports "DNS:reports.example"
issue foreign-client other-ca client reports "DNS:reports.example"
issue other-client ca client somebody "DNS:somebody.example"
issue expired-client ca client reports "DNS:reports.example" 20190101000000Z 20200102000000Z
key self-signed
openssl req -config ca.cnf -new -x509 -key self-signed.key -subj /CN=localhost -addext "subjectAltName=$local" \
  -addext basicConstraints=CA:FALSE -days 3650 -out self-signed.pem

openssl pkey -in rsa.key -pubout -out rsa.pub
openssl pkey -in ecdsa.key -pubout -out ecdsa.pub
for name in ecdsa exact; do
  printf 'sha256/%s' "$(openssl pkey -in $name.key -pubout -outform DER | openssl dgst -sha256 -binary | openssl base64)" > $name.pin
done
openssl pkey -in ecdsa.key -aes256 -passout pass:secret -out encrypted.key
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key 2>/dev/null
openssl pkey -in p384.key -pubout -out p384.pub
rm -rf issued ca.cnf req.csr index*
