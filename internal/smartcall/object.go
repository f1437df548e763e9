package smartcall

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// object is a JSON object's fields by their exact names, values as they were written.
// json.Unmarshal into a struct would take code for Code, and of a field given twice
// the last; a json.Decoder's tokens would tell, for more than signing a request costs.
type object map[string]json.RawMessage

// decodeObject takes one JSON object apart. Errors do not quote it.
func decodeObject(b []byte) (object, error) {
	if !json.Valid(b) {
		return nil, errors.New("not one whole JSON value")
	}
	return splitObject(bytes.TrimSpace(b))
}

// splitObject does the same for a JSON value known to be valid, without space around
// it. The values are parts of b.
func splitObject(b []byte) (object, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not valid UTF-8")
	}
	if b[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	o := make(object, 8)
	for i := skipSpace(b, 1); b[i] != '}'; {
		end := skipValue(b, i)
		name := unquote(b[i:end])
		if _, twice := o[name]; twice {
			return nil, errors.New("a field is given twice")
		}
		i = skipSpace(b, skipSpace(b, end)+1) // over the colon
		end = skipValue(b, i)
		o[name] = b[i:end:end]
		if i = skipSpace(b, end); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return o, nil
}

// splitArray calls yield with each element of a JSON array known to be valid,
// without space around it, until yield returns false.
func splitArray(b []byte, yield func(element []byte) bool) {
	for i := skipSpace(b, 1); b[i] != ']'; {
		end := skipValue(b, i)
		if !yield(b[i:end:end]) {
			return
		}
		if i = skipSpace(b, end); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

// skipValue returns the end of the value that begins at i and is followed by
// something, as every value in an object or array is.
func skipValue(b []byte, i int) int {
	if b[i] == '"' {
		return skipText(b, i)
	}
	for depth := 0; ; i++ {
		switch b[i] {
		case '"':
			i = skipText(b, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of what the number or word lies in
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
}

func skipText(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// unquote returns the text of a valid JSON string.
func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // cannot fail: it is valid
	return s
}
