package campaign

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var refForm = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

const (
	fileRef   = "file:"
	maxSecret = 4 << 10
)

// checkRef says whether a text is a reference to a secret. What is none is most
// likely the secret itself, so the text is never repeated.
func checkRef(ref string) error {
	if refForm.MatchString(ref) {
		return nil
	}
	if path, ok := strings.CutPrefix(ref, fileRef); ok && filepath.IsAbs(path) {
		return nil
	}
	return errors.New("write where the secret is, ${NAME} for an environment variable or file:/path for a file, never the secret itself; if this was a secret, replace it: it has been in a file that others can read")
}

// ResolveSecret fetches the secret that a reference names, without surrounding
// white space; an empty reference gives "". A file must be readable by its owner
// only. Errors name the variable or the file, never what is in it.
func ResolveSecret(ref string, getenv func(string) string) (string, error) {
	if ref == "" {
		return "", nil
	}
	if err := checkRef(ref); err != nil {
		return "", err
	}
	if m := refForm.FindStringSubmatch(ref); m != nil {
		secret := strings.TrimSpace(getenv(m[1]))
		if secret == "" {
			return "", fmt.Errorf("the environment variable %s is not set; set it, or name another in the account file", m[1])
		}
		return secret, nil
	}
	return readSecret(strings.TrimPrefix(ref, fileRef))
}

func readSecret(path string) (secret string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("the secret file %s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return "", fmt.Errorf("the secret file %s can be read by others; run: chmod 600 %s", path, path)
	case info.Size() > maxSecret:
		return "", fmt.Errorf("the secret file %s has more than %d bytes", path, maxSecret)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if secret = strings.TrimSpace(string(data)); secret == "" {
		return "", fmt.Errorf("the secret file %s is empty", path)
	}
	return secret, nil
}
