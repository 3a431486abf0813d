"""Dhan's ways of saying no, each exactly as it looks on the wire."""

from simulator.wire import Request, Response

BAD_INPUT = "Missing required fields, bad values for parameters etc."
UNKNOWN_ORDER = "Incorrect request for order and cannot be processed"

_TYPES = {
    "DH-901": "Invalid_Authentication",
    "DH-902": "Invalid_Access",
    "DH-904": "Rate_Limit",
    "DH-905": "Input_Exception",
    "DH-906": "Order_Error",
    "DH-907": "Data_Error",
    "DH-908": "Internal_Server_Error",
    "DH-1111": "HOLDING_ERROR",
}
_DATA_MESSAGES = {
    "800": "Internal Server Error",
    "804": "Requested number of instruments exceeds limit",
    "805": "Too many requests. Further requests may result in the user being blocked.",
    "806": "Data APIs not subscribed",
    "807": "Access token expired",
    "808": "Authentication Failed - Client ID or Access Token invalid",
    "809": "Access token invalid",
    "810": "Client ID invalid",
    "811": "Invalid Expiry Date",
    "812": "Invalid Date Format",
    "813": "Invalid SecurityId",
    "814": "Invalid Request",
}


def refusal(code: str, message: str, status: int = 400) -> Response:
    """The trading APIs' error body."""
    return Response.of({"errorType": _TYPES[code], "errorCode": code, "errorMessage": message}, status)


def data_refusal(code: str, status: int = 400) -> Response:
    """The data APIs' error body."""
    return Response.of({"data": {code: _DATA_MESSAGES[code]}, "status": "failed"}, status)


def too_many_requests() -> Response:
    """The rate limiter's answer; it carries no Retry-After."""
    message = "Too many requests on server from single user breaching rate limits. Try throttling API calls."
    return refusal("DH-904", message, 429)


def gateway_not_found(request: Request, now_ms: int) -> Response:
    """What the gateway says to a path nobody serves."""
    return Response.of({"timestamp": now_ms, "status": 404, "error": "Not Found", "path": request.path}, 404)


def bad_gateway() -> Response:
    """The page in front of a dead backend."""
    page = (
        "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
        "<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Response(status=502, body=page.encode(), content_type="text/html")
