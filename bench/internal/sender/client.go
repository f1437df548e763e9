package sender

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"

	"dialer/internal/smartcall"
)

// What every call says.
const (
	shown      = "057100000000"
	voiceCode  = "open.wav,$name$"
	voiceParam = `{"name":"李雷"}`
)

const timeout = 10 * time.Second

func newCaller(o Options) (caller, error) {
	switch o.Client {
	case "", "ours":
		client, err := smartcall.New(smartcall.Config{
			Endpoint: o.Endpoint, Credentials: smartcall.StaticCredentials(keyID, secret, ""), Timeout: timeout, Conns: o.Senders,
		})
		return own{client}, err
	case "bare":
		u, err := url.Parse(o.Endpoint)
		if err != nil {
			return nil, err
		}
		transport := &http.Transport{MaxIdleConnsPerHost: o.Senders}
		return bare{&http.Client{Transport: transport, Timeout: timeout}, o.Endpoint, u.Host}, nil
	case "sdk":
		u, err := url.Parse(o.Endpoint)
		if err != nil {
			return nil, err
		}
		client, err := openapi.NewClient(&utils.Config{
			AccessKeyId: new(keyID), AccessKeySecret: new(secret), Endpoint: new(u.Host), Protocol: new("http"),
		})
		return official{client}, err
	}
	return nil, fmt.Errorf("no client is called %q", o.Client)
}

// own is the dialer's client.
type own struct{ *smartcall.Client }

func (o own) call(ctx context.Context, c call) (sent, answered time.Time, err error) {
	resp, err := o.SmartCall(ctx, &smartcall.Request{
		CalledShowNumber: shown, CalledNumber: c.phone, VoiceCode: voiceCode, VoiceCodeParam: voiceParam,
		OutID: c.outID, DynamicID: c.outID, RecordFlag: new(true), SessionTimeout: new(120),
	}, time.Now().Add(3*time.Second))
	now := time.Now()
	if err == nil {
		return resp.SentAt, resp.AnsweredAt, nil
	}
	e, ok := errors.AsType[*smartcall.Error](err)
	if ok && e.Class == smartcall.ClassThrottled {
		return e.SentAt, now, errThrottled
	}
	return now, now, err
}

// bare is what a person writes who has read the page on signatures and wants nothing
// but an answer: a signed request by net/http.
type bare struct {
	client         *http.Client
	endpoint, host string
}

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func (b bare) call(ctx context.Context, c call) (sent, answered time.Time, err error) {
	query := url.Values{
		"CalledShowNumber": {shown}, "CalledNumber": {c.phone}, "VoiceCode": {voiceCode}, "VoiceCodeParam": {voiceParam},
		"OutId": {c.outID}, "DynamicId": {c.outID}, "RecordFlag": {"true"}, "SessionTimeout": {"120"},
	}.Encode()
	query = strings.ReplaceAll(query, "+", "%20")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.endpoint+"/?"+query, nil)
	if err != nil {
		return sent, answered, err
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	date := time.Now().UTC().Format("2006-01-02T15:04:05Z")
	nonceText := hex.EncodeToString(nonce[:])
	const names = "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version"
	canonical := "POST\n/\n" + query + "\nhost:" + b.host + "\nx-acs-action:SmartCall\nx-acs-content-sha256:" + emptyHash +
		"\nx-acs-date:" + date + "\nx-acs-signature-nonce:" + nonceText + "\nx-acs-version:2017-05-25\n\n" + names + "\n" + emptyHash
	hash := sha256.Sum256([]byte(canonical))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(hash[:])))
	req.Header = http.Header{
		"X-Acs-Action": {"SmartCall"}, "X-Acs-Version": {"2017-05-25"}, "X-Acs-Date": {date},
		"X-Acs-Signature-Nonce": {nonceText}, "X-Acs-Content-Sha256": {emptyHash},
		"Authorization": {"ACS3-HMAC-SHA256 Credential=" + keyID + ",SignedHeaders=" + names + ",Signature=" + hex.EncodeToString(mac.Sum(nil))},
	}
	sent = time.Now()
	resp, err := b.client.Do(req)
	if err != nil {
		return sent, time.Now(), err
	}
	defer resp.Body.Close()
	var answer struct{ Code, CallId, Message, RequestId string }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return sent, time.Now(), understood(err, answer.Code, answer.CallId)
}

// official is the generic client of the platform's own SDK, as its documentation uses it.
type official struct{ *openapi.Client }

func (o official) call(ctx context.Context, c call) (sent, answered time.Time, err error) {
	sent = time.Now()
	got, err := o.CallApiWithCtx(ctx, &utils.Params{
		Action: new("SmartCall"), Version: new("2017-05-25"), Protocol: new("HTTP"),
		Pathname: new("/"), Method: new("POST"), AuthType: new("AK"), Style: new("RPC"),
		ReqBodyType: new("formData"), BodyType: new("json"),
	}, &utils.OpenApiRequest{Query: map[string]*string{
		"CalledShowNumber": new(shown), "CalledNumber": new(c.phone), "VoiceCode": new(voiceCode), "VoiceCodeParam": new(voiceParam),
		"OutId": new(c.outID), "DynamicId": new(c.outID), "RecordFlag": new("true"), "SessionTimeout": new("120"),
	}}, &dara.RuntimeOptions{ConnectTimeout: new(10_000), ReadTimeout: new(10_000)})
	if err != nil {
		return sent, time.Now(), err
	}
	body, _ := got["body"].(map[string]any)
	code, _ := body["Code"].(string)
	callID, _ := body["CallId"].(string)
	return sent, time.Now(), understood(nil, code, callID)
}

func understood(err error, code, callID string) error {
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case code == "Throttling.User":
		return errThrottled
	case code != "OK" || callID == "":
		return errors.New("not accepted: " + code)
	}
	return nil
}
