package smartcall

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"
)

func TestSignatureVectors(t *testing.T) {
	own, err := (&Request{
		CalledNumber: "13800000000", CalledShowNumber: "057100000000", OutID: "b1-000001",
		VoiceCode: "$name$", VoiceCodeParam: `{"name":"喂 ~*"}`,
	}).query()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name            string
		request         signable
		secret          string
		hash, signature string
	}{
		{
			name: "published in help document 2593177",
			request: signable{
				host: "ecs.cn-shanghai.aliyuncs.com", action: "RunInstances", version: "2014-05-26",
				query: "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
				date:  "2023-10-26T10:22:32Z", nonce: "3156853299f313e23d1673dc12e1703d",
			},
			secret:    "YourAccessKeySecret",
			hash:      "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259",
			signature: "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
		},
		{
			name: "a SmartCall",
			request: signable{
				host: "dyvmsapi.aliyuncs.com", action: "SmartCall", version: "2017-05-25",
				query: own, date: "2026-01-02T03:04:05Z", nonce: "nonce-0001",
			},
			secret:    "testsecret",
			hash:      "665eb32fbb165f15355da8e1c2ca8e094cec034c77a551f840baf69fc2404f55",
			signature: "99a8a2ce2d6dc4fd5b5ce77ab71debd2111dc8fdc89d477c6e6859a3cda79bdc",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			hash := sha256.Sum256(c.request.canonical())
			if got := hex.EncodeToString(hash[:]); got != c.hash {
				t.Errorf("hash of the canonical request\n%s\n= %s, want %s", c.request.canonical(), got, c.hash)
			}
			if got := c.request.signature(c.secret); got != c.signature {
				t.Errorf("signature = %s, want %s", got, c.signature)
			}
		})
	}
}

func TestSignableIsFresh(t *testing.T) {
	const n = 1000
	nonces := map[string]bool{}
	for range n {
		s := newSignable("localhost", "SmartCall", "", "")
		nonces[s.nonce] = true
		if len(s.nonce) != 32 {
			t.Fatalf("nonce %q: want 128 bits in hex", s.nonce)
		}
		at, err := time.Parse(time.RFC3339, s.date)
		if err != nil || at.Location() != time.UTC || time.Since(at).Abs() > time.Minute {
			t.Fatalf("date %q: want now, in UTC", s.date)
		}
	}
	if len(nonces) != n {
		t.Errorf("%d nonces in %d requests", len(nonces), n)
	}
}

func TestSecurityTokenIsSigned(t *testing.T) {
	s := newSignable("localhost", "SmartCall", "", "token-1")
	h := s.header(Key{ID: "id", Secret: newSecret("secret"), Token: newSecret("token-1")})
	if got := h.Get("x-acs-security-token"); got != "token-1" {
		t.Errorf("x-acs-security-token = %q", got)
	}
	other := s
	other.token = "token-2"
	if s.signature("secret") == other.signature("secret") {
		t.Error("the signature does not depend on the token")
	}
}
