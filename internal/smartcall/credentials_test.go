package smartcall

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestSecretNeverPrints(t *testing.T) {
	const canary = "canary-secret"
	key := Key{ID: "id", Secret: newSecret(canary), Token: newSecret(canary)}
	hidden := struct{ key Key }{key} // fmt does not call the methods of what lies in unexported fields
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", key, &key.Secret, hidden)
	}
	encoded, err := json.Marshal(map[string]any{"key": key, "secret": key.Secret})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, logger := range []*slog.Logger{slog.New(slog.NewJSONHandler(&out, nil)), slog.New(slog.NewTextHandler(&out, nil))} {
		logger.Info("key", "key", key, "secret", key.Secret, "hidden", hidden)
	}
	fmt.Fprintf(&out, "%+v", StaticCredentials("id", canary, canary))
	if strings.Contains(out.String(), "canary") || strings.Contains(out.String(), fmt.Sprintf("%x", canary)) || strings.Contains(out.String(), fmt.Sprintf("%X", canary)) {
		t.Errorf("the secret is printed: %s", &out)
	}
	if !strings.Contains(out.String(), masked) {
		t.Errorf("no %s in %s", masked, &out)
	}
	if key.Secret.reveal() != canary || (Secret{}).reveal() != "" {
		t.Error("the secret itself is lost")
	}
}

func TestStaticCredentials(t *testing.T) {
	key, err := StaticCredentials("id", "secret", "token").Get(t.Context())
	if err != nil || key.ID != "id" || key.Secret.reveal() != "secret" || key.Token.reveal() != "token" {
		t.Errorf("got %v, %v", key, err)
	}
	for _, c := range []Credentials{StaticCredentials("", "secret", ""), StaticCredentials("id", "", "")} {
		if _, err := c.Get(t.Context()); err == nil {
			t.Error("an empty key was given out")
		}
	}
}

// emptyChain makes sure that the chain finds nothing and asks no network.
func emptyChain(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
	for _, name := range []string{
		"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN",
		"ALIBABA_CLOUD_CREDENTIALS_URI", "ALIBABA_CLOUD_CREDENTIALS_FILE", "ALIBABA_CLOUD_CONFIG_FILE",
		"ALIBABA_CLOUD_PROFILE", "ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
	} {
		t.Setenv(name, "")
	}
}

func TestChainCredentialsFromEnvironment(t *testing.T) {
	emptyChain(t)
	chain, err := ChainCredentials()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chain.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "set ALIBABA_CLOUD_ACCESS_KEY_ID") {
		t.Fatalf("got %v, want advice", err)
	}
	// Once a person has mended it the same chain finds the key.
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
	t.Setenv("ALIBABA_CLOUD_SECURITY_TOKEN", "token")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { // the library alone has a data race here
			for range 50 {
				key, err := chain.Get(t.Context())
				if err != nil || key.ID != "id" || key.Secret.reveal() != "secret" || key.Token.reveal() != "token" {
					t.Errorf("got %v, %v", key, err)
				}
			}
		})
	}
	group.Wait()
}

func TestChainCredentialsDoNotQuoteTheProfile(t *testing.T) {
	emptyChain(t)
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"profiles": [{"access_key_secret": "canary-secret"`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALIBABA_CLOUD_CONFIG_FILE", file)
	chain, err := ChainCredentials()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = chain.Get(t.Context()); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want an error without the file's content", err)
	}
}

func TestChainCredentialsWaitNoLongerThanTheRequest(t *testing.T) {
	emptyChain(t)
	made, err := ChainCredentials()
	if err != nil {
		t.Fatal(err)
	}
	library := <-made.(*chain).turn // somebody else is renewing the key
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := made.Get(ctx); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	made.(*chain).turn <- library
}
