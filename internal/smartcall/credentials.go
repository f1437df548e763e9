package smartcall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/aliyun/credentials-go/credentials"
)

// Secret is a text that prints as *** under every verb of fmt, in JSON and in logs.
// The zero Secret is the empty text.
type Secret struct {
	// A pointer, because fmt prints the bare fields of a Secret that lies in an
	// unexported field of something else, and then only an address comes out.
	text *string
}

const masked = "***"

func newSecret(text string) Secret { return Secret{&text} }

func (s Secret) reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format prints ***, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// LogValue logs ***.
func (s Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText makes *** of the secret, in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// Key is what a request is signed with: an AccessKey, and for a short-lived one the
// security token that came with it.
type Key struct {
	ID     string
	Secret Secret
	Token  Secret // empty unless the key is from STS
}

// Credentials gives the key for the next request. Get is called once per request,
// by many goroutines at once, so it must answer from memory nearly always.
type Credentials interface {
	Get(ctx context.Context) (Key, error)
}

type staticCredentials Key

func (c staticCredentials) Get(context.Context) (Key, error) {
	if c.ID == "" || c.Secret.reveal() == "" {
		return Key{}, errors.New("the AccessKey id or its secret is empty")
	}
	return Key(c), nil
}

// StaticCredentials always gives the same key. The token is empty unless the key is
// a short-lived one.
func StaticCredentials(id, secret, token string) Credentials {
	return staticCredentials{ID: id, Secret: newSecret(secret), Token: newSecret(token)}
}

// chain serialises the library's default chain, which writes its fields without a lock.
type chain struct {
	turn chan credentials.Credential // holds the chain while nobody uses it
}

// ChainCredentials finds a key the way the platform's own tools do: environment,
// OIDC role, profile files, instance role, credentials URI. The library keeps a
// short-lived key until shortly before it expires; the renewal may take as long as
// the library's own time-outs (10 s), for which Get does not wait beyond ctx.
// ChainCredentials looks for no key yet; that the chain is empty is told by Get.
func ChainCredentials() (Credentials, error) {
	found, err := credentials.NewCredential(nil)
	if err != nil {
		return nil, errors.New("set up the default chain of credentials")
	}
	c := &chain{turn: make(chan credentials.Credential, 1)}
	c.turn <- found
	return c, nil
}

func (c *chain) Get(ctx context.Context) (Key, error) {
	var library credentials.Credential
	select {
	case library = <-c.turn:
	case <-ctx.Done():
		return Key{}, fmt.Errorf("wait for the renewal of the key: %w", context.Cause(ctx))
	}
	defer func() { c.turn <- library }()

	model, err := library.GetCredential()
	if err != nil || model.AccessKeyId == nil || model.AccessKeySecret == nil {
		// The library remembers the last place it looked at, found or not, and would
		// only ever look there again.
		if fresh, err := credentials.NewCredential(nil); err == nil {
			library = fresh
		}
		// Its error may quote a whole profile file, secrets and all.
		return Key{}, errors.New("no AccessKey in the environment, the profile files or the instance role: " +
			"set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or give the machine a RAM role")
	}
	key := Key{ID: *model.AccessKeyId, Secret: newSecret(*model.AccessKeySecret)}
	if model.SecurityToken != nil {
		key.Token = newSecret(*model.SecurityToken)
	}
	return key, nil
}
