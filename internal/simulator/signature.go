package simulator

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// envelope is a request as the gateway sees it, before it knows what is asked.
type envelope struct {
	method, host string
	header       http.Header
	query        params // of the URL alone
	all          params // of the URL and a form body
	body         []byte
}

// caller is what a good signature proves.
type caller struct {
	account         *account
	action, version string
	nonce           string
}

const scheme3 = "ACS3-HMAC-SHA256"

// verify checks key, time, signature and nonce of a request by either scheme. The
// scheme is told by the Authorization header: V1 clients send x-acs-action as well.
func (s *Simulator) verify(e *envelope, now time.Time) (caller, *refusal) {
	authorization := e.header.Get("Authorization")
	if rest, ok := strings.CutPrefix(authorization, scheme3); ok {
		return s.verify3(e, rest, now)
	}
	return s.verify1(e, now)
}

// verify1 is the RPC signature, HMAC-SHA1 ("RPC API签名").
func (s *Simulator) verify1(e *envelope, now time.Time) (caller, *refusal) {
	for _, name := range []string{"AccessKeyId", "Action", "Version", "Timestamp", "SignatureNonce", "Signature"} {
		if e.all.get(name) == "" {
			return caller{}, missing(name)
		}
	}
	if e.all.get("SignatureMethod") != "HMAC-SHA1" || e.all.get("SignatureVersion") != "1.0" {
		return caller{}, gateway(400, "IncompleteSignature", "SignatureMethod HMAC-SHA1 and SignatureVersion 1.0 are required")
	}
	id := e.all.get("AccessKeyId")
	key, ok := s.keys[id]
	if !ok {
		return caller{}, unknownKey
	}
	if r := checkTime(e.all.get("Timestamp"), now); r != nil {
		return caller{}, r
	}
	if !hmac.Equal([]byte(sign1(e.method, e.all, key.secret)), []byte(e.all.get("Signature"))) {
		return caller{}, badSignature
	}
	c := caller{key.account, e.all.get("Action"), e.all.get("Version"), e.all.get("SignatureNonce")}
	return c, s.checkNonce(id, c.nonce, now)
}

func sign1(method string, all params, secret string) string {
	canonical := all.appendCanonical(make([]byte, 0, 1024), "Signature")
	text := make([]byte, 0, 2048)
	text = append(text, method...)
	text = append(text, "&%2F&"...)
	text = appendEncoded(text, canonical)
	mac := hmac.New(sha1.New, append([]byte(secret), '&'))
	mac.Write(text)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// mustSign are the headers without which a V3 signature proves nothing.
var mustSign = []string{"host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce"}

// verify3 is ACS3-HMAC-SHA256 (help documents 2593177 and 159972).
func (s *Simulator) verify3(e *envelope, authorization string, now time.Time) (caller, *refusal) {
	var id, signature, names string
	for field := range strings.SplitSeq(authorization, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			id = value
		case "SignedHeaders":
			names = value
		case "Signature":
			signature = value
		}
	}
	if id == "" || signature == "" || names == "" {
		return caller{}, gateway(400, "IncompleteSignature", "Authorization needs Credential, SignedHeaders and Signature")
	}
	signed := strings.Split(names, ";")
	for _, name := range mustSign {
		if !slices.Contains(signed, name) {
			return caller{}, gateway(400, "IncompleteSignature", "header "+name+" is not signed")
		}
	}
	for _, name := range []string{"x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"} {
		if e.header.Get(name) == "" {
			return caller{}, missing(name)
		}
	}
	key, ok := s.keys[id]
	if !ok {
		return caller{}, unknownKey
	}
	if r := checkTime(e.header.Get("x-acs-date"), now); r != nil {
		return caller{}, r
	}
	sum := sha256.Sum256(e.body)
	if given := e.header.Get("x-acs-content-sha256"); given != "" && given != hex.EncodeToString(sum[:]) {
		return caller{}, badSignature
	}
	_, want := sign3(e, signed, key.secret)
	if !hmac.Equal([]byte(want), []byte(signature)) {
		return caller{}, badSignature
	}
	c := caller{key.account, e.header.Get("x-acs-action"), e.header.Get("x-acs-version"), e.header.Get("x-acs-signature-nonce")}
	return c, s.checkNonce(id, c.nonce, now)
}

// sign3 returns the hash of the canonical request and the signature, both in hex.
func sign3(e *envelope, signed []string, secret string) (canonicalHash, signature string) {
	body := sha256.Sum256(e.body)
	text := make([]byte, 0, 2048)
	text = append(text, e.method...)
	text = append(text, "\n/\n"...)
	text = e.query.appendCanonical(text, "")
	text = append(text, '\n')
	for _, name := range signed {
		text = append(text, name...)
		text = append(text, ':')
		text = append(text, e.headerValue(name)...)
		text = append(text, '\n')
	}
	text = append(text, '\n')
	for i, name := range signed {
		if i > 0 {
			text = append(text, ';')
		}
		text = append(text, name...)
	}
	text = append(text, '\n')
	text = hex.AppendEncode(text, body[:])
	canonical := sha256.Sum256(text)

	text = append(text[:0], scheme3...)
	text = append(text, '\n')
	text = hex.AppendEncode(text, canonical[:])
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(text)
	return hex.EncodeToString(canonical[:]), hex.EncodeToString(mac.Sum(nil))
}

func (e *envelope) headerValue(name string) string {
	if name == "host" {
		return e.host
	}
	values := e.header.Values(name)
	if len(values) == 1 {
		return strings.TrimSpace(values[0])
	}
	return strings.Join(values, ",")
}

func checkTime(stamp string, now time.Time) *refusal {
	at, err := time.Parse("2006-01-02T15:04:05Z", stamp)
	if err != nil {
		return gateway(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
	}
	if off := now.Sub(at); off > validity || off < -validity {
		return gateway(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
	}
	return nil
}

// checkNonce comes last: a nonce is used up only by a request that is otherwise good.
func (s *Simulator) checkNonce(accessKeyID, nonce string, now time.Time) *refusal {
	if !s.nonces.fresh(accessKeyID, nonce, now) {
		return gateway(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
	}
	return nil
}
