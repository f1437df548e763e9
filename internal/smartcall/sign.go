package smartcall

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"
)

const (
	algorithm = "ACS3-HMAC-SHA256"
	version   = "2017-05-25" // of the product Dyvmsapi
	// emptyHash is the SHA-256 of the empty body that every request here has.
	emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// signable is one request of the V3 signature, help documents 2593177 and 159972.
type signable struct {
	host    string // as in the Host header, with the port if the endpoint has one
	action  string
	version string
	query   string // sorted and percent-encoded; "" without parameters
	nonce   string
	date    string // UTC, 2006-01-02T15:04:05Z
	token   string // "" unless the key is from STS
}

// newSignable takes the time and the nonce of a new request. The nonce has 128
// random bits, so one that the platform has seen before proves that somebody
// repeated our request.
func newSignable(host, action, query, token string) signable {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails: crypto/rand ends the program instead
	return signable{
		host:    host,
		action:  action,
		version: version,
		query:   query,
		nonce:   hex.EncodeToString(nonce[:]),
		date:    time.Now().UTC().Format("2006-01-02T15:04:05Z"),
		token:   token,
	}
}

// signedHeaders lists the headers of canonical, in its order.
func (s signable) signedHeaders() string {
	if s.token != "" {
		return "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;x-acs-version"
	}
	return "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
}

// canonical returns the text whose hash is signed.
func (s signable) canonical() []byte {
	b := make([]byte, 0, 512+len(s.query)+len(s.token))
	line := func(parts ...string) {
		for _, p := range parts {
			b = append(b, p...)
		}
		b = append(b, '\n')
	}
	line("POST")
	line("/")
	line(s.query)
	line("host:", s.host)
	line("x-acs-action:", s.action)
	line("x-acs-content-sha256:", emptyHash)
	line("x-acs-date:", s.date)
	if s.token != "" {
		line("x-acs-security-token:", s.token)
	}
	line("x-acs-signature-nonce:", s.nonce)
	line("x-acs-version:", s.version)
	line()
	line(s.signedHeaders())
	return append(b, emptyHash...)
}

func (s signable) signature(secret string) string {
	hash := sha256.Sum256(s.canonical())
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(algorithm + "\n" + hex.EncodeToString(hash[:])))
	return hex.EncodeToString(mac.Sum(nil))
}

// header returns the headers of the signed request, Host aside.
func (s signable) header(key Key) http.Header {
	h := http.Header{
		"Authorization": {algorithm + " Credential=" + key.ID + ",SignedHeaders=" + s.signedHeaders() +
			",Signature=" + s.signature(key.Secret.reveal())},
		"Accept":                {"application/json"},
		"User-Agent":            {"dialer"},
		"X-Acs-Action":          {s.action},
		"X-Acs-Content-Sha256":  {emptyHash},
		"X-Acs-Date":            {s.date},
		"X-Acs-Signature-Nonce": {s.nonce},
		"X-Acs-Version":         {s.version},
	}
	if s.token != "" {
		h["X-Acs-Security-Token"] = []string{s.token}
	}
	return h
}
