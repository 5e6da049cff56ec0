"""The call that SOLAPI's documents print for Python, with what differs from caller to caller as
arguments: the header Authorization, the address of the server and the id of an event.
"""

import sys

import requests

authorization, server, event = sys.argv[1:]

url = f"{server}/webhook/v1/outgoing"
headers = {
  "Authorization": authorization,
  "Content-Type": "application/json"
}
data = '{"eventId":"%s","url":"https://solapi.com/report"}' % event

response = requests.post(url, headers=headers, data=data)
print(response.status_code)
print(response.text)
