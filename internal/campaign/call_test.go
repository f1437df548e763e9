package campaign

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRenderParam(t *testing.T) {
	c := &Call{VoiceCode: "open.wav,$name$,$amount$", VoiceCodeParam: map[string]string{
		"name": "{ 姓名 }您好", "amount": "应缴{金额}元，{姓名}，截止{日期}",
	}}
	if got, want := c.Placeholders(), []string{"姓名", "日期", "金额"}; !slices.Equal(got, want) {
		t.Errorf("placeholders %q, want %q", got, want)
	}
	for _, tt := range []struct{ name, amount, want, err string }{
		{"张三", "199", `{"amount":"应缴199元，张三，截止11月","name":"张三您好"}`, ""},
		{" 张三 ", "<1&2>", `{"amount":"应缴<1&2>元，张三，截止11月","name":"张三您好"}`, ""},
		{`张\三`, "1", `{"amount":"应缴1元，张\\三，截止11月","name":"张\\三您好"}`, ""},
		{"", "199", "", `column "姓名" is empty`},
		{" \u3000", "199", "", `column "姓名" is empty`},
		{`张","x":"`, "199", "", `column "姓名" holds one of the characters`},
		{"{金额}", "199", "", `column "姓名" holds one of the characters`},
		{"张三", "￥199", "", `column "金额" holds one of the characters`},
		{"张三", "1\n2", "", `column "金额" holds a control character`},
		{"张三", "1\xff", "", `column "金额" holds a character that could not be decoded`},
		{strings.Repeat("张", 1000), "1", "", "shorten the text"},
	} {
		got, err := c.RenderParam(map[string]string{"姓名": tt.name, "金额": tt.amount, "日期": "11月"})
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("RenderParam(%q, %q) = %s, %v, want %s, %s", tt.name, tt.amount, got, err, tt.want, tt.err)
		}
		if err != nil && tt.name != "" && strings.Contains(err.Error(), tt.name) {
			t.Errorf("%q repeats the value", err)
		}
	}
	if got, err := (&Call{VoiceCode: "open.wav"}).RenderParam(nil); got != "" || err != nil {
		t.Errorf("a call without variables renders %q, %v", got, err)
	}
}

// Whatever stands in a cell, it comes out as itself or not at all.
func FuzzRenderParam(f *testing.F) {
	for _, s := range []string{"张三", `","x":"`, "{金额}", "$name$", "\\u0022", "</script>"} {
		f.Add(s)
	}
	c := &Call{VoiceCodeParam: map[string]string{"name": "{姓名}"}}
	f.Fuzz(func(t *testing.T, value string) {
		text, err := c.RenderParam(map[string]string{"姓名": value})
		if err != nil {
			return
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(text), &back); err != nil || len(back) != 1 || back["name"] != strings.TrimSpace(value) {
			t.Fatalf("%q became %s, which is %q, %v", value, text, back, err)
		}
	})
}

func TestVoiceCode(t *testing.T) {
	for _, tt := range []struct{ voiceCode, err string }{
		{"open.wav", ""},
		{"开场白.wav", ""},
		{"open.wav,$name$,close.wav", ""},
		{"$name$", ""},
		{"https://cdn.example.com/a.wav", ""},
		{"https://cdn.example.com:443/a.wav?x=1", ""},
		{"", "is empty"},
		{"open.wav，$name$", "full-width comma"},
		{"open.wav, $name$", "spaces around its commas"},
		{"open.wav,", `part ""`},
		{"open.mp3", `part "open.mp3"`},
		{"$na me$", "no variable"},
		{"$name", "no variable"},
		{"../open.wav", "no voice id"},
		{"http://cdn.example.com/a.wav", "not https"},
		{"ftp://cdn.example.com/a.wav", "not https"},
		{"file:///etc/passwd", "not https"},
		{"https:///a.wav", "without a host name"},
		{"https://127.0.0.1/a.wav", "without a host name"},
		{"https://[::1]/a.wav", "without a host name"},
		{"https://2130706433/a.wav", "without a host name"},
		{"https://0x7f.1/a.wav", "without a host name"},
		{"https://localhost/a.wav", "without a host name"},
		{"https://user@cdn.example.com/a.wav", "user name"},
		{"https://cdn.example.com:8443/a.wav", "port"},
		{"https://cdn.example.com/$name$.wav", "with a variable"},
		{"https://cdn.example.com\\@127.0.0.1/a.wav", "cannot be read"},
	} {
		_, errs := variables(tt.voiceCode)
		err := errors.Join(errs...)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %v, want %q", tt.voiceCode, err, tt.err)
		}
	}
}

func TestFoldNameIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "name")
		if once := foldName(s); foldName(once) != once {
			t.Fatalf("%q folds to %q, which folds to %q", s, once, foldName(once))
		}
	})
}

// A template that is let through renders whatever it names, and no other is rendered.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{姓名}您好", "{}", "{ }", "{a}{b}", "{{a}}", "}{", "{a", "$a$", "{\u200b}", "值", "{a\nb}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if checkTemplate(text) != nil {
			return
		}
		c := &Call{VoiceCodeParam: map[string]string{"name": text}}
		vars := map[string]string{}
		for _, column := range c.Placeholders() {
			if column == "" {
				t.Fatalf("%q needs a column without a name", text)
			}
			vars[column] = "张三"
		}
		out, err := c.RenderParam(vars)
		if err != nil {
			if !strings.Contains(err.Error(), "shorten the text") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(out), &back); err != nil || speakable(back["name"]) != nil {
			t.Fatalf("%q became %s, %v", text, out, err)
		}
	})
}

// Placeholders are found by hand for every call, and by their form when a file is read.
func TestFillFindsWhatTheFormFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("{}ab姓 "))).Draw(t, "text")
		vars := map[string]string{"": "0", "a": "1", "b": "2", "姓": "王", "a b": "3", "ab": "4"}
		var failed bool
		want := placeholderForm.ReplaceAllStringFunc(text, func(p string) string {
			value := vars[foldName(p[1:len(p)-1])]
			failed = failed || speakable(value) != nil
			return value
		})
		got, err := fill(text, vars)
		if failed != (err != nil) || err == nil && got != want {
			t.Fatalf("%q: %q, %v; want %q, an error: %v", text, got, err, want, failed)
		}
	})
}
